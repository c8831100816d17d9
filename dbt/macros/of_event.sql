{# The value of a column in a switch's row of one event; null without such a row. #}
{% macro of_event(column, event) -%} max({{ column }}) filter (where event = '{{ event }}') {%- endmacro %}
