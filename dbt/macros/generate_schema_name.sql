{# dbt would prefix the target's schema: `core_marts`. Ours are named as they are. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
