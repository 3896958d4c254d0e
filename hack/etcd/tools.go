//go:build tools

// Package etcd pins the version of etcd that a test cluster stores its objects in.
package etcd

import _ "go.etcd.io/etcd/server/v3"
