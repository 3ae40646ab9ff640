"""Cloud providers: models that somebody else serves, under the prefixes ``openai:``, ``anthropic:`` and ``google:``."""
