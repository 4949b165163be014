from .step import all_examples as all_examples
