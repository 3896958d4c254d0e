# syntax=docker/dockerfile:1
# The static binary on a base without a shell that ships CA roots and an unprivileged user. The bases go by tag, as their
# digests cannot be looked up everywhere this is built; the provenance of a published image names those it was made from.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm AS build
ARG TARGETARCH=amd64
RUN apt-get update && apt-get install --yes --no-install-recommends gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
COPY hack/cargo-tools /usr/local/bin/
RUN cargo-tools cargo-auditable
WORKDIR /src
COPY . .
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    case "$TARGETARCH" in arm64) arch=aarch64 ;; *) arch=x86_64 ;; esac \
    && rustup target add "$arch-unknown-linux-musl" \
    && hack/release "$arch-unknown-linux-musl" \
    && cp "target/$arch-unknown-linux-musl/release/arcgis-credential-operator" /arcgis-credential-operator

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="arcgis-credential-operator" \
      org.opencontainers.image.description="Keeps ArcGIS access tokens fresh in Kubernetes Secrets" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /arcgis-credential-operator /arcgis-credential-operator
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/arcgis-credential-operator"]
CMD ["run"]
