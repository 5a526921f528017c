"""The attempt. Heavy: it brings litellm, which takes seconds to import."""

from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__ == "workers.rooms":
    from activities.answer.cost import set_prices
    from activities.attempt import ProviderAttempts
    from activities.batch.batches import ProviderBatches
    from activities.observation import Observation, observing
    from activities.quota.rate import set_quota_rate
    from activities.quota.reports import tell_quota
    from activities.secrets.key_ring import KeyRing
    from activities.secrets.scrub import Scrubber
    from activities.validation.registry import PluginError, Registry
else:
    from ...activities.answer.cost import set_prices
    from ...activities.attempt import ProviderAttempts
    from ...activities.batch.batches import ProviderBatches
    from ...activities.observation import Observation, observing
    from ...activities.quota.rate import set_quota_rate
    from ...activities.quota.reports import tell_quota
    from ...activities.secrets.key_ring import KeyRing
    from ...activities.secrets.scrub import Scrubber
    from ...activities.validation.registry import PluginError, Registry

__all__ = [
    "KeyRing",
    "Observation",
    "PluginError",
    "ProviderAttempts",
    "ProviderBatches",
    "Registry",
    "Scrubber",
    "observing",
    "set_prices",
    "set_quota_rate",
    "tell_quota",
]
