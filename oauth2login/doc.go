// Package oauth2login adds to golang.org/x/oauth2 what it leaves to every application.
package oauth2login
