// A certificate for the name localhost that is signed by itself and good for a hundred years, with its key. It protects
// nothing; made by: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=localhost

export const SELF_SIGNED = {
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAmSCckXqughbb7Ps
upXEjtRF15D2FTqqT0pvZbLLuyGhRANCAASUP8g9fe3HI2k/aeyEIfzDmrQEtj4E
DVDuBGPT9xJw489d/W2scWBfSZSioFOHo96JhrbTKU/0S6MZXlSCkMXQ
-----END PRIVATE KEY-----
`,
  cert: `-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUN1WomB+EPBq0WHyrB7J6VSCCZzwwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTIwMTA3MjEzMFoYDzIxMjYxMTA3
MDcyMTMwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASUP8g9fe3HI2k/aeyEIfzDmrQEtj4EDVDuBGPT9xJw489d/W2scWBf
SZSioFOHo96JhrbTKU/0S6MZXlSCkMXQo2kwZzAdBgNVHQ4EFgQUw5XmJ3+uZEtK
NVTEmbyPIYgcFXUwHwYDVR0jBBgwFoAUw5XmJ3+uZEtKNVTEmbyPIYgcFXUwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
SAAwRQIhAO7jZT4mk5kNz+shbEWc7IHLtNPILPGfMtfqPOKmmWRTAiBhn3urjUJ/
VAAUL/86YnsMoaghK+00GK7+8/gAKsbMkQ==
-----END CERTIFICATE-----
`,
}
