with ratings as (

    select * from {{ ref('fct_ratings') }}
    where edition != 'streaming'

),

starts as (

    select * from {{ ref('int_user_starts') }}
    where has_stayed is not null

),

placed as (

    select
        ratings.user_key,
        ratings.movie_key,
        starts.has_stayed,
        row_number() over (partition by ratings.user_key order by ratings.rated_at, ratings.movie_key) as place
    from ratings
    inner join starts on ratings.user_key = starts.user_key

),

films as (

    select
        movie_key,
        count(*) as newcomers,
        count(*) filter (where has_stayed) as stayed
    from placed
    where place <= {{ first_films() }}
    group by movie_key

),

everybody as (

    select count(*) filter (where has_stayed) / count(*) as base_rate
    from starts

),

rates as (

    select
        films.movie_key,
        films.newcomers,
        films.stayed,
        films.stayed / films.newcomers as stay_rate,
        everybody.base_rate
    from films
    cross join everybody

),

-- Wilson's interval: it stays within 0 and 1 also for the few newcomers that most films have.
intervals as (

    select
        *,
        (stay_rate + 1.9208 / newcomers) / (1 + 3.8416 / newcomers) as centre,
        1.96 * sqrt(stay_rate * (1 - stay_rate) / newcomers + 0.9604 / (newcomers * newcomers))
        / (1 + 3.8416 / newcomers) as half_width
    from rates

),

final as (

    select
        movie_key,
        cast(newcomers as integer) as newcomers,
        cast(stayed as integer) as stayed,
        round(stay_rate, 6) as stay_rate,
        round(greatest(centre - half_width, 0), 6) as stay_rate_low,
        round(least(centre + half_width, 1), 6) as stay_rate_high,
        round(base_rate, 6) as base_rate,
        round(stay_rate / nullif(base_rate, 0), 6) as lift
    from intervals

)

select * from final
