package oauth2login

// Plan 9 has no error number for a read-only file system.
func isReadOnlyFS(error) bool { return false }
