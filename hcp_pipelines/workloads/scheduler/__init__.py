"""The scheduler daemon: claims work, has it routed, binds it to devices, follows it until it is over. See docs/scheduler.md."""
