//go:build tools

// Package tools pins the versions of what the checks of packaging and monitoring need.
package tools

// Its module holds the kinds of the Prometheus operator.
import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
