//go:build tools

// Package tools pins the Prometheus that alerts are tested with and that the dashboard's picture is drawn from.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
