module github.com/YearnstudioHorizon/shangcloud-oauth2/examples/rooms

go 1.26.0

require (
	github.com/YearnstudioHorizon/shangcloud-oauth2 v0.1.0
	github.com/YearnstudioHorizon/shangcloud-oauth2/mmo v0.1.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/oauth2 v0.38.0
	golang.org/x/time v0.16.0
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace (
	github.com/YearnstudioHorizon/shangcloud-oauth2 => ../..
	github.com/YearnstudioHorizon/shangcloud-oauth2/mmo => ../../mmo
)
