"""Users, sessions, API keys and the tokens of jobs: who may do what."""
