module github.com/YearnstudioHorizon/shangcloud-oauth2

// The oldest Go that golang.org/x/oauth2 supports: raised when its go.mod raises it, never before.
go 1.26.0

require (
	github.com/stretchr/testify v1.12.1
	golang.org/x/oauth2 v0.38.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect
