# The room engine simulator, for `make e2e` only. The folder that it is built from has the static binaries in out/.
FROM scratch
COPY out/ /
USER 65532:65532
ENTRYPOINT ["/room-engine-simulator"]
