"""lanjie inside web frameworks: `fastapi`, `django` and `flask`, each an extra (``lanjie[fastapi]``).

They ask the question of a case, hand the view a `Decision`, and turn what cannot be asked into an answer that a form
can show. None of them stops a case: the view decides, and only on `Outcome.INTERCEPT`.
"""
