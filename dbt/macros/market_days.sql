{# The operating day of an instant: ERCOT's, in Central time, of 23, 24 or 25 hours. #}
{% macro operating_day(column) -%} cast(timezone('America/Chicago', {{ column }}) as date) {%- endmacro %}

{% macro utc_day(column) -%} cast(timezone('UTC', {{ column }}) as date) {%- endmacro %}
