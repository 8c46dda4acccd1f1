module github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring

go 1.26.0

require (
	github.com/YearnstudioHorizon/shangcloud-oauth2 v0.1.0
	github.com/godbus/dbus/v5 v5.2.2
	github.com/stretchr/testify v1.12.1
	github.com/zalando/go-keyring v0.2.8
	golang.org/x/oauth2 v0.38.0
)

require (
	github.com/danieljoos/wincred v1.2.3 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.27.0 // indirect
)

replace github.com/YearnstudioHorizon/shangcloud-oauth2 => ../..
