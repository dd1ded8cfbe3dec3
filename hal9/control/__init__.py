"""The route and everything that changes it: records, the one reducer, the log they live on."""
