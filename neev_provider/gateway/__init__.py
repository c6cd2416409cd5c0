"""The processes and, in front of LiteLLM, the service that users talk to."""
