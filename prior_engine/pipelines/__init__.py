"""How each family of pipelines is recognised, loaded, called and decoded."""
