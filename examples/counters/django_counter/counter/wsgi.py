"""What gunicorn serves."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "counter.settings")
application = get_wsgi_application()

# With `preload_app` the client is made here, once, before the fork.
from lanjie.integrations.django import client  # noqa: E402

client()
