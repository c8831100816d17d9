{# Names of the state codes (hcp_pipelines/domain/modes.py), as a case expression over a column of codes. #}
{% macro state_name(column) -%}
    {{ name_of_code(column, ['curtailed', 'idle', 'mining_eco', 'mining_full', 'inference_realtime', 'inference_batch',
        'training']) }}
{%- endmacro %}

{% macro mode_name(column) -%}
    {{ name_of_code(column, ['curtailed', 'idle', 'bitcoin_mining', 'bitcoin_mining', 'ai_inference_realtime',
        'ai_inference_batch', 'model_training']) }}
{%- endmacro %}

{% macro name_of_code(column, names) -%}
    case {{ column }} {%- for name in names %} when {{ loop.index0 }} then '{{ name }}' {%- endfor %} end
{%- endmacro %}
