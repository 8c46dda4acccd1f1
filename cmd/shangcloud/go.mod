module github.com/YearnstudioHorizon/shangcloud-oauth2/cmd/shangcloud

go 1.26.0

require (
	github.com/YearnstudioHorizon/shangcloud-oauth2 v0.1.0
	github.com/YearnstudioHorizon/shangcloud-oauth2/mmo v0.1.0
	github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring v0.1.0
	github.com/cli/browser v1.3.0
	github.com/creack/pty v1.1.24
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	github.com/stretchr/testify v1.12.1
	golang.org/x/oauth2 v0.38.0
	golang.org/x/term v0.48.0
	golang.org/x/text v0.44.0
	rsc.io/qr v0.2.0
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	github.com/danieljoos/wincred v1.2.3 // indirect
	github.com/godbus/dbus/v5 v5.2.2 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/zalando/go-keyring v0.2.8 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.50.0 // indirect
)

replace (
	github.com/YearnstudioHorizon/shangcloud-oauth2 => ../..
	github.com/YearnstudioHorizon/shangcloud-oauth2/mmo => ../../mmo
	github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring => ../../tokenstore/keyring
)
