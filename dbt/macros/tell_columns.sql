{# After a model: its columns and its parents', in the log. Column lineage in Dagster is made of it and of the compiled SQL. #}
{% macro tell_columns() %}
    {% if execute %}
        {% set parents = {} %}
        {% for unique_id in model.depends_on.nodes %}
            {% set node = graph.nodes.get(unique_id) or graph.sources.get(unique_id) %}
            {% set relation = api.Relation.create(node.database, node.schema, node.get('identifier') or node.alias) %}
            {% do parents.update({node.relation_name: {'columns': columns_of(relation)}}) %}
        {% endfor %}
        {% do log(tojson({'columns': columns_of(this), 'parents': parents}), info=true) %}
    {% endif %}
{% endmacro %}

{% macro columns_of(relation) %}
    {% set types = {} %}
    {% for column in adapter.get_columns_in_relation(relation) %}
        {% do types.update({column.name: {'data_type': column.data_type}}) %}
    {% endfor %}
    {{ return(types) }}
{% endmacro %}
