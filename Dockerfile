# One image with the four programs; the chart says which one a pod runs.
#
# glibc on distroless instead of static musl: it is the target that every test and measurement of this repository ran on, ring and mimalloc
# are compiled for it by the ordinary C compiler, and the image brings the authorities' certificates that Vault over https needs.
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin operator --bin ingest --bin sink --bin console

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/operator /usr/local/bin/operator
COPY --from=build /src/target/release/ingest /usr/local/bin/ingest
COPY --from=build /src/target/release/sink /usr/local/bin/sink
COPY --from=build /src/target/release/console /usr/local/bin/console
USER 65532:65532
