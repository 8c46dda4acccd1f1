package main

import (
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/routers/internal/logintest"
)

func TestLogin(t *testing.T) { logintest.Run(t, routes) }
