{# Views are replaced in one commit. dbt's own way drops and renames in several, and a reader between them finds no view. #}
{% materialization view, adapter='duckdb' -%}
    {%- set made = create_or_replace_view() -%}
    {%- do adapter.commit() -%}
    {{ return(made) }}
{%- endmaterialization %}

{% macro duckdb__create_view_as(relation, sql) -%}
    create or replace view {{ relation }} as (
        {{ sql }}
    );
{%- endmacro %}
