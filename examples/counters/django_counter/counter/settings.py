"""Settings of the counter: those of lanjie, and what Django wants."""

import os

LANJIE = {"gateway_file": os.environ["LANJIE_GATEWAY_FILE"], "state_dir": os.environ["LANJIE_STATE_DIR"]}
"""One state directory for each department; all workers share it."""

MIDDLEWARE = ["lanjie.integrations.django.LanjieMiddleware"]
SECRET_KEY = os.environ.get("SECRET_KEY", "for-examples-only")
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "counter.urls"
WSGI_APPLICATION = "counter.wsgi.application"
USE_TZ = True
