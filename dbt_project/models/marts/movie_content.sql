with movies as (

    select * from {{ ref('dim_movies') }}

),

final as (

    select
        movie_key,
        timestamp '1900-01-01' as feature_timestamp,
        year as release_year,
        runtime_minutes,
{%- for genre in genres() | sort %}
        cast(list_contains(genres, '{{ genre }}') as integer) as is_{{ genre_column(genre) }}{{ ',' if not loop.last }}
{%- endfor %}
    from movies

)

select * from final
