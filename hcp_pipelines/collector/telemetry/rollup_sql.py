"""What a roll-up is, in SQL: minutes of devices from samples, their hours and the groups' minutes from minutes; the long views.

A query takes the source's rows between two instants of simulated time. Averages of averages are weighted by their counts.
"""

from hcp_pipelines.collector.columns import columns_of

METRICS = ("power_kw", "hashrate_th_per_s", "temperature_celsius")
MINUTES, HOURS, GROUP_MINUTES = "core.telemetry_1min", "core.telemetry_1h", "core.telemetry_group_1min"
_KEYS = "facility_id, group_id, generation, slot"


def _first(metric: str) -> str:
    """Roll-up of samples. Sums are of float8: a thousand float4 lose digits."""
    return (
        f"avg({metric}) as {metric}_avg, max({metric}) as {metric}_max, min({metric}) as {metric}_min, "
        f"count({metric})::integer as {metric}_count"
    )


def _again(metric: str) -> str:
    """Roll-up of what was rolled up before."""
    return (
        f"sum({metric}_avg * {metric}_count) / nullif(sum({metric}_count), 0) as {metric}_avg, "
        f"max({metric}_max) as {metric}_max, "
        f"min({metric}_min) as {metric}_min, sum({metric}_count)::integer as {metric}_count"
    )


OF_SAMPLES = f"""
    select time_bucket(interval '1 minute', simulated_at) as minute_at, {_KEYS},
           count(*)::integer as samples, {", ".join(map(_first, METRICS))}
    from lake.raw.telemetry where simulated_at >= ? and simulated_at < ? group by all
"""  # noqa: S608 - our constants
# groups' minutes are kept for ever: by them it is known what was rolled up of minutes that are nowhere else any more
SHRUNK = f"""
    select epoch(o.minute_at)::bigint // 60 from (
        select minute_at, sum(samples) as samples from lake.{GROUP_MINUTES} where minute_at >= ? and minute_at < ? group by all) o
    left join (
        select time_bucket(interval '1 minute', simulated_at) as minute_at, count(*) as samples
        from lake.raw.telemetry where simulated_at >= ? and simulated_at < ? group by all) n using (minute_at)
    where coalesce(n.samples, 0) < o.samples
"""  # noqa: S608
SHRUNK_HOURS = f"""
    select epoch(o.hour_at)::bigint // 3600 from (
        select hour_at, sum(samples) as samples from lake.{HOURS} where hour_at >= ? and hour_at < ? group by all) o
    left join (
        select time_bucket(interval '1 hour', minute_at) as hour_at, sum(samples) as samples
        from lake.{MINUTES} where minute_at >= ? and minute_at < ? group by all) n using (hour_at)
    where coalesce(n.samples, 0) < o.samples
"""  # noqa: S608
OF_MINUTES = f"""
    select time_bucket(interval '1 hour', minute_at) as hour_at, {_KEYS},
           sum(samples)::integer as samples, {", ".join(map(_again, METRICS))}
    from lake.{MINUTES} where minute_at >= ? and minute_at < ? group by all
"""  # noqa: S608
OF_DEVICES = """
    select minute_at, facility_id, group_id, generation, count(*)::integer as devices, sum(samples)::integer as samples,
           sum(power_kw_avg) as power_kw, count(power_kw_avg)::integer as devices_with_power,
           sum(hashrate_th_per_s_avg) as hashrate_th_per_s, avg(temperature_celsius_avg) as temperature_celsius_avg,
           max(temperature_celsius_max) as temperature_celsius_max, count(hashrate_th_per_s_avg)::integer as devices_with_hashrate
    from minutes group by all
"""

_ROLLED = ", ".join(f"{name}_avg float8, {name}_max float4, {name}_min float4, {name}_count int4" for name in METRICS)
HOUR_COLUMNS = columns_of(  # as the queries make them: to be shown
    f"hour_at timestamptz, facility_id text, group_id text, generation int8, slot int4, samples int4, {_ROLLED}"
)
GROUP_MINUTE_COLUMNS = columns_of(
    """minute_at timestamptz, facility_id text, group_id text, generation int8, devices int4, samples int4, power_kw float8,
    devices_with_power int4, hashrate_th_per_s float8, temperature_celsius_avg float8, temperature_celsius_max float4,
    devices_with_hashrate int4"""
)


_TAGS = "{'facility_id': facility_id, 'group_id': group_id, 'generation': generation, 'slot': slot} as tags"


def _metrics(metric: str) -> str:
    return f"""
        select simulated_at as "time", facility_id || '/' || slot as resource_id, '{metric}' as metric_name,
               {metric}::double as value, {_TAGS}
        from lake.raw.telemetry where {metric} is not null"""  # noqa: S608


def _metrics_1min(metric: str) -> str:
    return f"""
        select minute_at as "time", facility_id || '/' || slot as resource_id, '{metric}' as metric_name,
               {metric}_avg as avg_value, {metric}_max::double as max_value, {metric}_min::double as min_value,
               {metric}_count as count, {_TAGS}
        from lake.{MINUTES} where {metric}_count > 0"""  # noqa: S608


VIEWS = {
    "core.metrics": " union all ".join(map(_metrics, METRICS)),
    "core.metrics_1min": " union all ".join(map(_metrics_1min, METRICS)),
}
