from .callbacks import Callback as Callback
from .callbacks import Event as Event
from .step import all_examples as all_examples
from .trackers import jupyter_callback as jupyter_callback
from .trackers import mlflow_callback as mlflow_callback
from .trackers import wandb_callback as wandb_callback
