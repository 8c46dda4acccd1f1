package docs

// Code blocks in the pages use these modules. The imports make "go mod tidy" keep them in
// go.mod.
import (
	_ "github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth"
	_ "github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	_ "github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring"
	_ "github.com/alexedwards/scs/v2"
	_ "github.com/gin-gonic/gin"
	_ "github.com/go-chi/chi/v5/middleware"
	_ "github.com/gorilla/sessions"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/labstack/echo/v5/middleware"
	_ "github.com/markbates/goth/gothic"
	_ "github.com/prometheus/client_golang/prometheus/promauto"
)
