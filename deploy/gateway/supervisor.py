"""The gateway as a whole: starts nginx and mtail, has nginx follow what changes, and drains at the end.

Every quarter of a second the wanted configuration is rendered from the keys, the certificate and the Tritons of this
moment. If it is not the one that nginx has, nginx is handed it, and old workers finish what they have begun.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from . import certificates, keys, nginx_config
from .certificates import Certificate
from .errors import GatewayError, NginxError
from .feed import Feed
from .keys import ApiKey
from .log import Log
from .mtail import Mtail
from .nginx import Nginx
from .nginx_config import Content
from .replicas import Replica, Replicas
from .settings import Settings
from .watched import Watched

INTERVAL_S = 0.25
MIN_RELOAD_INTERVAL_S = 1.0
REFUSED_AGAIN_S = 10.0
MTAIL_RESTART_S = 5.0
REPORT_INTERVAL_S = 5.0
QUIT_TIMEOUT_S = 5.0  # when nothing is under way any more


class Gateway:
    """One gateway; `run` is its life.

    Args:
        settings: what it is to do.
        log: what it says.
    """

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._stopping = False
        _prepare(settings)
        self._keys = self._watched_keys()
        self._certificate = self._watched_certificate()
        self._replicas = Replicas(settings.tritons)
        self._mtail = Mtail(settings, log)
        self._feed = Feed(Mtail.socket(settings))
        self._nginx = Nginx(settings, log, self._feed)
        self._applied: Content | None = None
        self._refused: Content | None = None
        self._asked: set[Replica] = set()  # by this configuration, and by earlier ones that still have workers
        self._leaving = False  # whether workers of an earlier configuration may still be there
        self._reloaded_at = self._mtail_started_at = self._reported_at = 0.0

    def stop(self) -> None:
        """Asks `run` to drain and return; safe in a signal handler, where nothing with a lock is."""
        self._stopping = True

    def run(self) -> int:
        """Serves until `stop`; returns the exit code: 1 if a part of it ended by itself.

        Raises:
            GatewayError: something that is needed is missing or wrong at the start.
        """
        try:
            self._start()
            while not self._stopping:
                time.sleep(INTERVAL_S)
                if self._nginx.returncode is not None:
                    self._log.event("nginx ended", "error", exit_code=self._nginx.returncode)
                    return 1
                if not self._replicas.watching:
                    self._log.event("watching ended", "error", message="nobody looks after the Tritons any more")
                    self._drain()
                    return 1
                self._try_to_follow()
            self._drain()
            return 0
        finally:
            self._nginx.kill()
            self._replicas.stop()
            self._feed.close(timeout_s=1.0)
            self._mtail.stop()

    # --- life -------------------------------------------------------------------------------------
    def _start(self) -> None:
        if os.geteuid() == 0:
            self._log.event("running as root", "warning", message="nothing here needs it; run it as another user")
        self._start_mtail()
        self._replicas.start()
        content = self._wanted()
        self._write_certificate()
        self._asked = set(content.replicas)
        self._replicas.use(self._asked)
        self._nginx.start(nginx_config.render(content))
        self._applied = content
        self._log.event(
            "started",
            port=self._settings.port,
            models=self._settings.models,
            tritons=_names(content.replicas),
            api_keys="off" if content.api_keys is None else len(content.api_keys),
        )

    def _try_to_follow(self) -> None:
        """A full disk or a lack of memory must not end what serves."""
        try:
            self._follow()
        except OSError as exc:
            self._log.event("failed", "error", message=f"{exc}; the next try is in {INTERVAL_S:g} s")

    def _follow(self) -> None:
        """Looks at everything that may change, once."""
        now = time.monotonic()
        for watched in (self._keys, self._certificate):
            if watched is not None and watched.look():
                self._count("reload", outcome="failed")
        if now - self._reloaded_at >= MIN_RELOAD_INTERVAL_S:
            self._reload(self._wanted())
        if self._leaving and self._applied is not None and not self._nginx.draining:
            self._asked = set(self._applied.replicas)
            self._replicas.use(self._asked)
            self._leaving = False
        if not self._mtail.running and now - self._mtail_started_at >= MTAIL_RESTART_S:
            self._log.event("mtail ended", "error", message="it is started again; its counts begin at 0")
            self._mtail_started_at = now
            self._start_mtail()
        if now - self._reported_at >= REPORT_INTERVAL_S:
            self._reported_at = now
            self._report()

    def _reload(self, wanted: Content) -> None:
        if wanted == self._applied or self._applied is None:
            return
        if wanted == self._refused and time.monotonic() - self._reloaded_at < REFUSED_AGAIN_S:
            return
        before = self._applied
        try:
            self._write_certificate()
            self._asked.update(before.replicas, wanted.replicas)
            self._replicas.use(self._asked)
            self._leaving = True
            self._nginx.reload(nginx_config.render(wanted))
        except NginxError as exc:
            self._refused = wanted
            self._log.event("reload failed", "error", message=str(exc))
            self._count("reload", outcome="failed")
        else:
            self._applied, self._refused = wanted, None
            self._log.event("reloaded", **_difference(before, wanted))
            self._count("reload", outcome="applied")
        self._reloaded_at = time.monotonic()

    def _drain(self) -> None:
        """Closes the public port; what is under way may finish.

        In two steps, because the relays are needed by what is under way: nginx alone would close them at once.
        """
        deadline = time.monotonic() + self._settings.drain_timeout_s
        self._log.event("draining", timeout_s=self._settings.drain_timeout_s)
        try:
            if self._applied is not None:
                self._nginx.reload(nginx_config.render(self._applied.without_public_port()))
            while self._nginx.draining and time.monotonic() < deadline:
                time.sleep(INTERVAL_S / 5)
        except NginxError as exc:
            self._log.event("reload failed", "error", message=str(exc))
        in_time = time.monotonic() < deadline
        clean = self._nginx.quit(QUIT_TIMEOUT_S) and in_time
        self._log.event("stopped", "info" if clean else "warning", everything_finished=clean)

    # --- what nginx should have -------------------------------------------------------------------
    def _wanted(self) -> Content:
        return Content(
            settings=self._settings,
            replicas=self._replicas.serving,
            api_keys=None if self._keys is None else self._keys.meaning,
            fingerprint=self._certificate.meaning.fingerprint,
        )

    def _write_certificate(self) -> None:
        certificate = self._certificate.meaning
        contents = (certificate.chain, certificate.private_key)
        for path, content in zip(nginx_config.certificate_files(self._settings), contents, strict=True):
            certificates.write_private(path, content)

    def _watched_keys(self) -> Watched[tuple[ApiKey, ...]] | None:
        path = self._settings.api_keys
        return None if path is None else Watched("API keys", lambda: keys.read(path), keys.parse, self._log)

    def _watched_certificate(self) -> Watched[Certificate]:
        chain, private_key = self._settings.certificate, self._settings.private_key
        if chain is None or private_key is None:
            made = certificates.make_self_signed(self._settings.certificate_names)
            return Watched("certificate", lambda: (b"",), lambda _: made, self._log)
        return Watched("certificate", lambda: certificates.read(chain, private_key), Certificate, self._log)

    # --- metrics of its own -----------------------------------------------------------------------
    def _start_mtail(self) -> None:
        self._mtail.start()
        for model in self._settings.models:
            self._count("model", model=model)

    def _report(self) -> None:
        self._count(
            "state",
            replicas_ready=self._replicas.ready_count,
            certificate_expires_s=int(self._certificate.meaning.expires_s),
            dropped_lines=self._feed.dropped_lines,
        )

    def _count(self, event: str, **facts: Any) -> None:
        """A line for access_log.mtail."""
        self._feed.send((json.dumps({"gateway": event, **facts}, separators=(",", ":")) + "\n").encode())


def _prepare(settings: Settings) -> None:
    folder = settings.state_folder
    try:
        (folder / "temporary").mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as exc:
        raise GatewayError(f"GATEWAY_STATE_FOLDER {str(folder)!r} cannot be used: {exc.strerror}") from exc


def _names(replicas: tuple[Replica, ...]) -> list[str]:
    return [replica.grpc for replica in replicas]


def _difference(before: Content, after: Content) -> dict[str, Any]:
    """What a new configuration changes, for the log."""
    facts: dict[str, Any] = {}
    if before.replicas != after.replicas:
        facts["tritons"] = _names(after.replicas)
    if before.api_keys != after.api_keys:
        facts["api_keys"] = [key.name for key in after.api_keys or ()]
    if before.fingerprint != after.fingerprint:
        facts["certificate"] = after.fingerprint
    return facts
