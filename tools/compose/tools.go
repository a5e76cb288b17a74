//go:build tools

// Package compose pins compose-go, the loader inside `docker compose`, so that the compose files are checked by it
// where no container engine runs.
package compose

import _ "github.com/compose-spec/compose-go/v2/cmd"
