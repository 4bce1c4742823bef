-- Health of an RtcApplication. Deletions of its robots that are stuck show here, too: the robots themselves are shown as
-- Progressing while they are being deleted.
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
  health.message = "No call is made for this application: spec.suspend is true"
  return health
end

local ready = condition("Ready")
-- A condition that speaks of an older spec says nothing about this one.
if ready == nil
  or (ready.observedGeneration ~= nil and obj.metadata.generation ~= nil
    and ready.observedGeneration < obj.metadata.generation) then
  return health
end

health.message = ready.reason .. ": " .. ready.message
if ready.status == "True" then
  health.status = "Healthy"
elseif ready.status == "False" and ready.reason ~= "Suspended" then
  health.status = "Degraded"
end
return health
