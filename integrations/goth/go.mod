module github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth

go 1.26.0

require (
	github.com/YearnstudioHorizon/shangcloud-oauth2 v0.1.0
	github.com/gorilla/sessions v1.4.0
	github.com/markbates/goth v1.82.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/oauth2 v0.38.0
)

require (
	github.com/go-chi/chi/v5 v5.2.2 // indirect
	github.com/gorilla/context v1.1.1 // indirect
	github.com/gorilla/mux v1.6.2 // indirect
	github.com/gorilla/securecookie v1.1.2 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/YearnstudioHorizon/shangcloud-oauth2 => ../..
