"""The gateway: nginx in front of one or more Tritons, the only port that the public reaches.

    client ──TLS──► nginx: key? limits? an allowed path? ──► one of the Tritons, another one if that fails
                      │ access log (JSON, no text of users) ──► stdout and mtail ──► /metrics

`settings` reads the environment, `nginx_config` renders the one nginx.conf, `replicas` knows which Tritons can be
asked now, `supervisor` runs nginx and mtail and reloads nginx when keys, certificate or Tritons change. Standard
library only: it runs as ``python3 -m gateway`` with a distribution's Python, here as ``python -m deploy.gateway``.
"""
