// Command assemble-image assembles the operator's container image from a static binary, without a container engine: an OCI image
// layout in a tar. The same inputs give the same bytes. It prints the digest by which a registry knows the image.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	name   = "arcgis-credential-operator"
	user   = "65532:65532"
	passwd = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
	group  = "root:x:0:\nnonroot:x:65532:\n"
	roots  = "/etc/ssl/certs/ca-certificates.crt"
)

var (
	binary   = flag.String("binary", "", "the static binary")
	caFile   = flag.String("ca", "", "the CA roots in PEM, of the package ca-bundle")
	version  = flag.String("version", "", "the version")
	revision = flag.String("revision", "unknown", "the commit")
	arch     = flag.String("arch", "amd64", "amd64 or arm64")
	epoch    = flag.Int64("epoch", 0, "the time of everything, in seconds since 1970")
	out      = flag.String("out", "", "the tar to write")
)

type file struct {
	path string
	mode int64
	body []byte
}

func main() {
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("assemble-image: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ca, err := os.ReadFile(*caFile)
	if err != nil {
		return err
	}
	program, err := os.ReadFile(*binary)
	if err != nil {
		return err
	}
	base, err := layer([]file{
		{"etc/", 0o755, nil}, {"etc/group", 0o644, []byte(group)}, {"etc/passwd", 0o644, []byte(passwd)},
		{"etc/ssl/", 0o755, nil}, {"etc/ssl/certs/", 0o755, nil}, {roots[1:], 0o644, ca},
	})
	if err != nil {
		return err
	}
	top, err := layer([]file{{name, 0o755, program}})
	if err != nil {
		return err
	}
	image, err := assemble(base, top)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := path.WriteImage(image); err != nil {
		return err
	}
	descriptor, err := partial.Descriptor(image)
	if err != nil {
		return err
	}
	descriptor.ArtifactType = ""
	descriptor.Platform = &v1.Platform{OS: "linux", Architecture: *arch}
	descriptor.Annotations = map[string]string{
		"org.opencontainers.image.ref.name": *version,
		// The name that containerd gives it on import.
		"io.containerd.image.name": "docker.io/library/" + name + ":" + *version,
	}
	if err := path.AppendDescriptor(*descriptor); err != nil {
		return err
	}
	if err := pack(dir, *out); err != nil {
		return err
	}
	_, err = fmt.Println(descriptor.Digest)
	return err
}

func assemble(layers ...v1.Layer) (v1.Image, error) {
	created := v1.Time{Time: time.Unix(*epoch, 0).UTC()}
	labels := map[string]string{
		"org.opencontainers.image.title":       name,
		"org.opencontainers.image.description": "Keeps ArcGIS access tokens fresh in Kubernetes Secrets",
		"org.opencontainers.image.version":     *version,
		"org.opencontainers.image.revision":    *revision,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.created":     created.Format(time.RFC3339),
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(image, layers...)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", *arch, created
	config.History = nil
	config.Config = v1.Config{
		User:         user,
		Entrypoint:   []string{"/" + name},
		Cmd:          []string{"run"},
		Env:          []string{"PATH=/", "SSL_CERT_FILE=" + roots},
		WorkingDir:   "/",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Labels:       labels,
	}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(image, labels).(v1.Image), nil
}

func layer(files []file) (v1.Layer, error) {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, file := range files {
		if err := add(archive, file); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(6))
}

func add(archive *tar.Writer, file file) error {
	kind := byte(tar.TypeReg)
	if file.body == nil {
		kind = tar.TypeDir
	}
	header := &tar.Header{
		Name: file.path, Mode: file.mode, Size: int64(len(file.body)), ModTime: time.Unix(*epoch, 0), Typeflag: kind,
		Format: tar.FormatUSTAR,
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := archive.Write(file.body)
	return err
}

// Packs a folder, in the order of names.
func pack(dir, out string) error {
	target, err := os.Create(out)
	if err != nil {
		return err
	}
	defer target.Close()
	archive := tar.NewWriter(target)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return add(archive, file{relative, 0o644, body})
	})
	if err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return target.Close()
}
