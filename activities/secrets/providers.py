"""Which environment variables belong to a provider, and which providers need none.

litellm knows this in a hundred modules, and its one table covers half of them. For the rest there is a rule: a variable
belongs to a provider if it starts with the provider's name and looks like a credential.
"""

import re
from collections.abc import Mapping
from typing import Final

_OWN: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "text-completion-openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "azure": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_AD_TOKEN", "AZURE_CLIENT_SECRET", "AZURE_PASSWORD"),
    "azure_text": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_AD_TOKEN", "AZURE_CLIENT_SECRET"),
    "azure_ai": ("AZURE_AI_API_KEY", "AZURE_API_KEY"),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHER_AI_TOKEN"),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "fireworks_ai": ("FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN"),
    "ai21": ("AI21_API_KEY",),
    "ai21_chat": ("AI21_API_KEY",),
    "codestral": ("CODESTRAL_API_KEY",),
    "text-completion-codestral": ("CODESTRAL_API_KEY",),
    "replicate": ("REPLICATE_API_KEY", "REPLICATE_API_TOKEN"),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "xai": ("XAI_API_KEY",),
    "cerebras": ("CEREBRAS_API_KEY",),
    "deepinfra": ("DEEPINFRA_API_KEY",),
    "nvidia_nim": ("NVIDIA_NIM_API_KEY",),
    "moonshot": ("MOONSHOT_API_KEY",),
    "dashscope": ("DASHSCOPE_API_KEY",),
    "novita": ("NOVITA_API_KEY",),
    "nebius": ("NEBIUS_API_KEY",),
    "sambanova": ("SAMBANOVA_API_KEY",),
}
"""The provider needs one of these. Without any it is not asked."""

_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "bedrock": ("AWS",), "bedrock_converse": ("AWS",), "bedrock_mantle": ("AWS",), "sagemaker": ("AWS",),
    "sagemaker_chat": ("AWS",), "vertex_ai": ("GOOGLE", "VERTEX", "VERTEXAI"),
    "vertex_ai_beta": ("GOOGLE", "VERTEX", "VERTEXAI"), "watsonx": ("WATSONX", "WX"), "watsonx_text": ("WATSONX", "WX"),
    "volcengine": ("VOLCENGINE", "ARK"), "zai": ("ZAI",),
    "github_copilot": ("GITHUB",), "github": ("GITHUB",), "databricks": ("DATABRICKS",), "snowflake": ("SNOWFLAKE",),
    "meta_llama": ("LLAMA",), "sap": ("AICORE",), "oci": ("OCI",), "cloudflare": ("CLOUDFLARE",),
}  # fmt: skip
"""Prefixes of variables that differ from the provider's name."""

SELF_HOSTED: Final = frozenset({
    "a2a", "a2a_agent", "custom", "custom_openai", "docker_model_runner", "gdc", "hosted_vllm", "infinity", "langflow",
    "langgraph", "lemonade", "litellm_proxy", "llamafile", "lm_studio", "ollama", "ollama_chat", "oobabooga",
    "openai_like", "petals", "ragflow", "triton", "vllm", "xinference",
})  # fmt: skip
"""Providers without a public address. litellm asks this machine or OpenAI if a spec names none."""

UNOBSERVED: Final = frozenset({"aiohttp_openai"})
"""Providers that litellm does not ask through the observed transport, so requests and keys are unknown."""

_CREDENTIAL = re.compile(
    r"(?:^|_)(?:[A-Z0-9]*KEY|[A-Z0-9]*TOKEN|[A-Z0-9]*SECRET|[A-Z0-9]*PASSWORD|PASSWD|PASS|PAT|JWT|CREDENTIALS?|AUTH|BEARER)(?:_\d+)?$"
    r"|ACCESS_KEY|API_KEY|APIKEY|SECRET_|AUTHORIZATION$|KEY_DATA$"
)


def looks_like_credential(variable: str) -> bool:
    """Whether a variable's name says that its value is a credential."""
    return _CREDENTIAL.search(variable.upper()) is not None


def key_variables(provider: str) -> tuple[str, ...]:
    """The variables of which the provider needs one. (): unknown, or it needs none."""
    return _OWN.get(provider, ())


def is_own(variable: str, provider: str) -> bool:
    """Whether `variable` is a credential of the provider."""
    if variable in _OWN.get(provider, ()):
        return True
    families = _FAMILIES.get(provider, (re.sub(r"\W", "_", provider.upper()),))
    return (
        provider not in _OWN
        and looks_like_credential(variable)
        and variable.upper().startswith(tuple(f"{f}_" for f in families))
    )
