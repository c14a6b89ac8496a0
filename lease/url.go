package lease

import "net/url"

// PublicURL returns the part of a backend's URL that may be shown in errors
// and logs: scheme, host and path, without user, password and parameters.
func PublicURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "a malformed URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
