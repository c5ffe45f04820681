"""How gunicorn runs the counter."""

bind = "127.0.0.1:8000"
workers = 8
preload_app = True


def post_worker_init(worker: object) -> None:
    """Start the client, so that the first case of this worker finds a set."""
    from lanjie.integrations.django import client

    client().sync_status()


def worker_exit(server: object, worker: object) -> None:
    """Upload the records of the last local passes."""
    from lanjie.integrations.django import close

    close()
