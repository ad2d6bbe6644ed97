"""Link drivers: what carries frames from one end of an emulated link to the other."""
