{# The kinds of settlement lines (hcp_pipelines/economics/settlement.py). #}
{% macro settlement_kinds() -%}
    {{ return(['energy', 'adders', 'hedge', 'peak_charge', 'mining', 'hash_deviation', 'pool_fee', 'inference', 'training',
        'reserves', 'demand_response', 'penalties', 'wakes']) }}
{%- endmacro %}
