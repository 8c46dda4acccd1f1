package main

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

// edgeFault is the name of the fault of the rooms' edge. It is not about requests.
const edgeFault = "edge"

// edgeCut is how many bytes the edge sends on a connection before a fault cuts it: enough
// for a login, and for half a minute of heartbeats.
const edgeCut = 512

// variablesPath has the platform's spelling.
const variablesPath = "/api/varibles"

// faultPaths are the parts of the platform that can be made to fail.
var faultPaths = map[string][]string{
	"authorize": {"/oauth/authorize"},
	"device":    {"/oauth/device_authorization"},
	"token":     {"/oauth/token"},
	"user-info": {"/api/user/info"},
	"variables": {variablesPath},
	"room": {
		"/api/mmo/room/new", "/api/mmo/room/join", "/api/mmo/room/config", "/api/mmo/room/kick", "/api/mmo/room/usercount",
		"/api/mmo/room/data/set", "/api/mmo/room/data/get", "/api/mmo/room/data/delete",
	},
	edgeFault: nil,
}

func faultNames() []string { return slices.Sorted(maps.Keys(faultPaths)) }

// addFaults reads NAME=STATUS, NAME=drop and NAME=slow=DURATION. It refuses a second
// fault for the same part of the platform, because only the first fault would take
// effect.
func addFaults(platform *shangcloudtest.Server, edge *mmotest.Edge, faults []string) error {
	seen := make(map[string]bool)
	for _, text := range faults {
		name, what, _ := strings.Cut(text, "=")
		paths, known := faultPaths[name]
		if !known {
			return usagef("--fault %s: its name has to be one of %s", text, strings.Join(faultNames(), ", "))
		}
		if seen[name] {
			return usagef("--fault %s: %s has a fault already", text, name)
		}
		seen[name] = true
		fault, ok := parseFault(what)
		if !ok {
			return usagef("--fault %s: after %s= comes a status from 400 to 599, drop, or slow= and a time such as 2s", text, name)
		}
		if name == edgeFault && fault.Status != 0 {
			return usagef("--fault %s: after edge= comes drop, or slow= and a time such as 2s", text)
		}
		if name == edgeFault {
			edge.SetFaults(atEdge(fault))
		}
		for _, path := range paths {
			platform.Fault(path, fault)
		}
	}
	return nil
}

// atEdge returns the fault of the edge that is like one of the platform.
func atEdge(f shangcloudtest.Fault) mmotest.Faults {
	if f.Drop {
		return mmotest.Faults{CutAfter: edgeCut}
	}
	return mmotest.Faults{Delay: f.Delay}
}

func parseFault(what string) (shangcloudtest.Fault, bool) {
	if what == "drop" {
		return shangcloudtest.Fault{Drop: true}, true
	}
	if delay, ok := strings.CutPrefix(what, "slow="); ok {
		d, err := time.ParseDuration(delay)
		return shangcloudtest.Fault{Delay: d}, err == nil && d > 0
	}
	status, err := strconv.Atoi(what)
	if err != nil || status < http.StatusBadRequest || status > 599 {
		return shangcloudtest.Fault{}, false
	}
	return shangcloudtest.Fault{Status: status}, true
}
