-- Health of a RoomRobot. Argo CD itself shows every object that is being deleted as Progressing, before it asks here:
-- a deletion that is stuck shows on the RtcApplication.
local function condition(kind)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, it in ipairs(obj.status.conditions) do
      if it.type == kind then
        return it
      end
    end
  end
  return nil
end

local health = { status = "Progressing", message = "Waiting for the operator" }

if obj.spec ~= nil and obj.spec.suspend == true then
  health.status = "Suspended"
  health.message = "No call is made for this robot: spec.suspend is true"
  return health
end

-- A condition that speaks of an older spec says nothing about this one.
if obj.status == nil or obj.status.observedGeneration == nil
  or (obj.metadata.generation ~= nil and obj.status.observedGeneration < obj.metadata.generation) then
  return health
end

local stalled = condition("Stalled")
if stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
  health.message = stalled.reason .. ": " .. stalled.message
  return health
end

local ready = condition("Ready")
if ready ~= nil then
  if ready.status == "True" then
    health.status = "Healthy"
  end
  health.message = ready.reason .. ": " .. ready.message
end
return health
