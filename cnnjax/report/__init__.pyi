from .diagnosis import cannot_see as cannot_see
from .diagnosis import diagnose as diagnose
from .exploration import explore as explore
from .report import write_report as write_report
