"""What holds for every test: a machine that is busy with other things must not make a property fail."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("truc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("truc")
