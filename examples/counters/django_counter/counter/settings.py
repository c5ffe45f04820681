"""Settings of the counter: two of lanjie's, and what Django wants."""

import os

LANJIE_GATEWAY_FILE = os.environ["LANJIE_GATEWAY_FILE"]
LANJIE_STATE_DIR = os.environ["LANJIE_STATE_DIR"]
"""One directory for each department; all workers share it."""

SECRET_KEY = os.environ.get("SECRET_KEY", "for-examples-only")
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "counter.urls"
WSGI_APPLICATION = "counter.wsgi.application"
USE_TZ = True
