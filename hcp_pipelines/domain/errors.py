"""The error tree, split by what the caller will do about it.

HcpError
├── ConfigError            fix a file, a setting or an argument (exit code 2)
│   ├── NotThereError      name one that there is
│   └── TakenError         take another name
├── NotRunningError        start the platform first
├── NotPermittedError      ask somebody who may
├── AlreadyRunningError    another platform owns this state directory or port
├── StorageError           Postgres or the lake refused or is away (retry or mend)
├── MarketError            an outside service answered badly (retry later)
├── ModelError             a learnt model can't be used (train another)
├── DeviceUnreachableError retry with backoff
├── DeviceRefusedError     quarantine
│   ├── NotNowError        ask again while there is time
│   └── WorkUnfitError     not the device: the work can't run there, nor anywhere like it
└── DeviceReplyError       report the bytes
Messages name the thing, the value, the limit and the next step.
"""


class HcpError(Exception):
    """Base of all errors that are ours."""

    exit_code = 1


class ConfigError(HcpError):
    """A file, setting or argument is wrong; the message says which and what would be right."""

    exit_code = 2


class NotThereError(ConfigError):
    """What is named is not there, or is over."""


class TakenError(ConfigError):
    """The name is somebody's already."""


class NotRunningError(HcpError):
    """No platform runs on this state directory."""


class NotPermittedError(HcpError):
    """The operator is unknown, is not who they say, or may not do this."""


class AlreadyRunningError(HcpError):
    """Another platform owns this state directory, or a port is taken."""


class StorageError(HcpError):
    """Postgres or the lake refused the work or cannot be reached."""


class MarketError(HcpError):
    """An outside service answered with something unusable."""


class ModelError(HcpError):
    """A learnt model can't be used: its arrays, size, digest or age, or what it wants to see. Decisions go on without it."""


class DeviceUnreachableError(HcpError):
    """The device did not answer in time: retry."""


class DeviceRefusedError(HcpError):
    """The device answered that it will not: quarantine."""


class NotNowError(DeviceRefusedError):
    """The device takes nothing new at present, for a reason that passes: it is busy, or its node is drained for a repair."""


class WorkUnfitError(DeviceRefusedError):
    """What was to run can't: its weights don't fit, its model or checkpoint can't be loaded. Nothing is wrong with the device."""


class DeviceReplyError(HcpError):
    """The device answered with bytes that do not decode: report them."""
