{#-
    The 18 genres of MovieLens that become feature columns, from the most telling to the least: the first that a film
    has is its main genre. (The files list genres by alphabet, so their order says nothing.)
-#}
{% macro genres() -%}
    {{ return([
        'Documentary', 'Animation', 'Horror', 'Western', 'War', 'Musical', 'Film-Noir', 'Sci-Fi', 'Children',
        'Fantasy', 'Mystery', 'Crime', 'Romance', 'Action', 'Adventure', 'Thriller', 'Comedy', 'Drama'
    ]) }}
{%- endmacro %}

{#- "Sci-Fi" -> sci_fi: the genre in a column's name. -#}
{% macro genre_column(genre) -%}
    {{ return(genre | lower | replace('-', '_')) }}
{%- endmacro %}

{#-
    The pattern once for each genre, separated by commas: "<g>" stands for the genre in a column's name, "<genre>" for the
    genre itself. A call in place of a loop keeps the columns of one step in one line.
-#}
{% macro per_genre(pattern) -%}
    {%- for genre in genres() | sort -%}
        {{ pattern | replace('<g>', genre_column(genre)) | replace('<genre>', genre) }}
        {{- ',\n        ' if not loop.last -}}
    {%- endfor -%}
{%- endmacro %}

{#- The first of the telling genres that is in the list, else the list's first; NULL for an empty list. -#}
{% macro main_genre(list) -%}
    case
        {%- for genre in genres() %}
            when list_contains({{ list }}, '{{ genre }}') then '{{ genre }}'
        {%- endfor %}
            else {{ list }}[1]
        end
{%- endmacro %}

{#-
    IMDb's genres in MovieLens' words: "Family" is Children, "Music" is near enough to Musical (so the matching takes it,
    too), and what MovieLens has no word for (Biography, History, Sport, News, ...) is left out.
-#}
{% macro movielens_genres(list) -%}
    list_sort(list_distinct([
            case g when 'Family' then 'Children' when 'Music' then 'Musical' else g end
            for g in {{ list }}
            if g in ('Family', 'Music', '{{ genres() | join("', '") }}')
        ]))
{%- endmacro %}
