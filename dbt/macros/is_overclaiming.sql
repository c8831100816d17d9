{# Whether a miner claims more than its credits and the luck of its shares explain. #}
{% macro is_overclaiming(reported, credited, shares, hours) -%}
    {{ hours }} >= {{ var('claims_least_hours') }} and {{ reported }} >= {{ var('claims_least_th_per_s') }}
    and {{ reported }} > {{ credited }} * (
        {{ var('claims_tolerated') }}
        + {{ var('claims_sigmas') }} / sqrt(greatest(coalesce({{ shares }}, {{ var('claims_shares_untold') }}), 1))
    )
{%- endmacro %}
