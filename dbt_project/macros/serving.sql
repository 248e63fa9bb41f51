{#- What somebody does with a film within so many days of being served it counts as an answer to that. -#}
{% macro feedback_days() -%}
    7
{%- endmacro %}

{#- Who gives a film so many stars, or more, likes it; as `would_like` of the API has it. -#}
{% macro liked_from() -%}
    3.7
{%- endmacro %}
