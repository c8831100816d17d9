{# One query in place of dbt's two (unique, not_null): a build has as many of them as tables. #}
{% test is_key(model, column_name) %}
select {{ column_name }}, count(*) as n
from {{ model }}
group by {{ column_name }}
having count(*) > 1 or {{ column_name }} is null
{% endtest %}
